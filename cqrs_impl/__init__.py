"""CQRS, by direction: commands record events, a feed carries them, a projector folds them into what queries read."""
