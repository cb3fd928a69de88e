"""What every program shares: the command line, compile times, memory."""
