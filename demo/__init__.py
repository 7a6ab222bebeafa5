"""The newcomer's walk: a real Label Studio, a real `fitloop local`, and a learning curve that climbs."""
