"""What is sent to the database: statements with their time, rows and line; transactions with their end."""
