"""What a seller sold."""

from collections.abc import Sequence

from shopease.models import OrderItem, OrderStatus, Product, Seller
from shopease.schemas import ProductSales, RecentSale, SellerDashboard
from shopease.serializers import seller_summary

RECENT_SALES = 10


def dashboard(seller: Seller) -> SellerDashboard:
    sold = {product: sales_of(product) for product in seller.products}
    sales = [item for items in sold.values() for item in items]
    return SellerDashboard(
        seller=seller_summary(seller),
        units=sum(item.quantity for item in sales),
        revenue_cents=sum(item.total_cents for item in sales),
        order_count=len({item.order_id for item in sales}),
        products=sorted(
            (product_sales(product, items) for product, items in sold.items()),
            key=lambda row: (-row.revenue_cents, row.product_id),
        ),
        recent_sales=recent_sales(sales),
    )


def sales_of(product: Product) -> list[OrderItem]:
    return [item for item in product.order_items if is_sale(item)]


def is_sale(item: OrderItem) -> bool:
    return item.order.status != OrderStatus.CANCELLED


def product_sales(product: Product, items: Sequence[OrderItem]) -> ProductSales:
    return ProductSales(
        product_id=product.id,
        name=product.name,
        stock=product.stock,
        units=sum(item.quantity for item in items),
        revenue_cents=sum(item.total_cents for item in items),
    )


def recent_sales(sales: Sequence[OrderItem]) -> list[RecentSale]:
    newest_first = sorted(sales, key=lambda item: (item.order.placed_at, item.id), reverse=True)
    return [
        RecentSale(
            order_id=item.order_id,
            placed_at=item.order.placed_at,
            status=item.order.status,
            product=item.product.name,
            quantity=item.quantity,
            total_cents=item.total_cents,
        )
        for item in newest_first[:RECENT_SALES]
    ]
