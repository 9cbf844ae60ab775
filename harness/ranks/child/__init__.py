"""What runs in a rank that is a process, and nowhere else. Start at `main`."""
