"""What is asked: one analyzer a file, and what all of them share."""
