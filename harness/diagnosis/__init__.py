"""What a stuck or failed rank was doing, and the words for it."""
