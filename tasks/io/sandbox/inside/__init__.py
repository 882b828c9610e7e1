"""What runs inside the sandbox. Standard library only: nothing else exists there, this package's parents included."""
