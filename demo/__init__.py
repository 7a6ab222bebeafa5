"""The demo: a real Label Studio, a real `fitloop local`, and a learning curve that climbs."""
