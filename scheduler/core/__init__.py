"""Pure rules and arithmetic: no clock, chance, logging or I/O."""
