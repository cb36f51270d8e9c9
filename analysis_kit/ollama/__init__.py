"""How a model is reached: address, wire format, client, pool, embedded server."""
