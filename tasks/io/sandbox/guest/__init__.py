"""Code that runs inside the sandbox. It imports only itself and the standard library, because nothing else exists there, not even the
code of its parent packages."""
