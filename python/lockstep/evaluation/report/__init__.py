"""What `lockstep report` shows of a checkpoint, measured in one job."""
