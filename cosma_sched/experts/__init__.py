"""Where each expert of a mixture-of-experts model lives: from a routing profile to a placement with load, traffic, bounds and migration.

Importing this package loads nothing but itself; the heavy parts are imported by whoever runs them.
"""
