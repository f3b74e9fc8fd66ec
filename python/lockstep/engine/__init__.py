"""The torch engine: sequences that Node steps through `lockstep.bridge.rpc`."""
