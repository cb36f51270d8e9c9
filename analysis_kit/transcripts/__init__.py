"""What comes in: transcripts and the layouts they are read from."""
