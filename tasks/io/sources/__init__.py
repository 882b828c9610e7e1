"""Where data come from: packages, folders, tables, the hub, generators. Each reader yields plain rows or texts."""
