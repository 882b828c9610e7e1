"""Back up what a workspace holds beside git, and restore it in a clone on another machine.

`contents` says what that is, `archive` reads and writes it as a file or a folder, `writing` and `restoring` are the two commands.
"""
