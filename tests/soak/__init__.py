"""Hours in minutes: several services on one Redis while their processes and their server are killed again and again."""
