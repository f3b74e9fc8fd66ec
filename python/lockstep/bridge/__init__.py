"""Python's end of the bridge to Node: jobs, remote calls, the guard, the torch engine."""
