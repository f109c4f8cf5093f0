"""The explorer: an index of pictures by what an encoder sees in them, and the page on which people look at it.

`index` is built and opened here, `synclr demo` and the Space show the same page (`page`). Everything the page does is
a function of this room that needs no browser; only `page` imports gradio.
"""
