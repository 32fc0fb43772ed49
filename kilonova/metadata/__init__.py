"""What a guest can ask about itself: OpenStack and EC2 trees, config drive, metadata service."""
