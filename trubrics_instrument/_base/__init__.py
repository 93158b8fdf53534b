"""The ground floor: what every room stands on, and stands on none of them."""
