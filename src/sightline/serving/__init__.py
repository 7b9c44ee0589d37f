"""A model behind HTTP or over a folder of pictures: the app, the batcher, the server, its clients."""
