"""What engines are compared with: the trainer's forward, and a stored probe of it."""
