"""What all observers share: a call, from what was asked to its one end, and how it is watched."""
