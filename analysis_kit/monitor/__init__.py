"""Where the time went: records, statistics and exports."""
