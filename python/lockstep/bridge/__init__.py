"""Python's end of the bridge to Node: jobs, remote calls, and the guard of services."""
