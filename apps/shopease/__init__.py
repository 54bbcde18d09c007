"""ShopEase: the backend of a marketplace. Sellers offer products; users order and review them."""
