"""Slurm's commands as small programs that run real processes and keep their state in a folder."""
