"""CRUD, by thing: one model of customers, products and orders, which commands change and queries read."""
