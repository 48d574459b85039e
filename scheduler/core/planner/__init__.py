"""Chooses cluster and window for every job: snapshot in, plan out."""
