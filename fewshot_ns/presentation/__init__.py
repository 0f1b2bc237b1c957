"""Results for people: pictures, tables, HTML pages, videos."""
