"""Gridtide: runs training jobs where and when the grid is cleanest."""
