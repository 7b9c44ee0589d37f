"""S3 objects as files: listed, fetched into a cache, uploaded. `sightline.storage` is the door; nothing else is needed outside.

address   s3://bucket/key, taken literally           connection  a client from the environment
listing   what lies below a prefix                   failures    what S3 answers -> where, what, how to fix
objects   one object -> one cached file              transfers   many at once: progress, all failures together
folders   a prefix -> a folder of cached files       uploads     files and folders -> objects, unchanged ones skipped
"""
