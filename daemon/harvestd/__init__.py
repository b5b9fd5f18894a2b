"""harvestd: collects every customer's data into your own PostgreSQL, tenant by tenant."""

__version__ = "0.1.0"
