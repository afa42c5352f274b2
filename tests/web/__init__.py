"""The pages, the admin and the API as a browser meets them."""
