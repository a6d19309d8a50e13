"""emodet: emotions in faces, from AffectNet on disk to a camera."""
