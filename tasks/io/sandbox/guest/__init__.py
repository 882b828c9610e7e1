"""Code that runs inside the sandbox. Standard library only: no other package exists there, not even this one's parents."""
