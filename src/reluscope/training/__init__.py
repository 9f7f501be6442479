"""Training: methods, learning-rate schedules, and the loop that dumps every step."""
