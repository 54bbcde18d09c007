"""From rows to answers."""

from shopease.models import Category, Order, Product, Review, Seller
from shopease.schemas import (
    CategorySummary,
    OrderLine,
    OrderSummary,
    ProductCard,
    ProductDetail,
    ReviewAuthor,
    ReviewEntry,
    SellerSummary,
)

REVIEWS_SHOWN = 20


def seller_summary(seller: Seller) -> SellerSummary:
    return SellerSummary(id=seller.id, name=seller.name)


def category_summary(category: Category) -> CategorySummary:
    return CategorySummary(slug=category.slug, name=category.name)


def product_card(product: Product) -> ProductCard:
    return ProductCard(
        id=product.id,
        name=product.name,
        description=product.description,
        price_cents=product.price_cents,
        in_stock=product.stock > 0,
        seller=seller_summary(product.seller),
        rating=product.rating,
        review_count=len(product.reviews),
    )


def product_detail(product: Product) -> ProductDetail:
    return ProductDetail(
        id=product.id,
        name=product.name,
        description=product.description,
        price_cents=product.price_cents,
        stock=product.stock,
        created_at=product.created_at,
        category=category_summary(product.category),
        seller=seller_summary(product.seller),
        rating=product.rating,
        review_count=len(product.reviews),
        reviews=[review_entry(review) for review in product.reviews[:REVIEWS_SHOWN]],
    )


def review_entry(review: Review) -> ReviewEntry:
    author = review.author
    return ReviewEntry(
        id=review.id,
        stars=review.stars,
        title=review.title,
        body=review.body,
        created_at=review.created_at,
        author=ReviewAuthor(user_id=author.id, name=author.name, review_count=len(author.reviews)),
    )


def order_summary(order: Order) -> OrderSummary:
    return OrderSummary(
        id=order.id,
        status=order.status,
        placed_at=order.placed_at,
        total_cents=order.total_cents,
        items=[
            OrderLine(
                product_id=item.product_id,
                product=item.product.name,
                quantity=item.quantity,
                unit_price_cents=item.unit_price_cents,
            )
            for item in order.items
        ],
    )
