"""What a service tells the public: the declaration, its schema, the notice for citizens; see docs/declaration.md."""
