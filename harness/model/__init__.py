"""Plain data that every other room agrees on. Nothing here imports torch."""
