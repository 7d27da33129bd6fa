"""Orders of a shop as a package: pages, data with a cache, a component and a style of its own."""
