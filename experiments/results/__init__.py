"""What tables, figures and the report page are made of."""
