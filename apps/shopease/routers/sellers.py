from fastapi import APIRouter, HTTPException

from shopease.database import DatabaseSession
from shopease.models import Seller
from shopease.parameters import Id
from shopease.reporting import dashboard
from shopease.schemas import SellerDashboard

router = APIRouter(prefix="/sellers", tags=["sellers"])


@router.get("/{seller_id}/dashboard")
def get_dashboard(session: DatabaseSession, seller_id: Id) -> SellerDashboard:
    seller = session.get(Seller, seller_id)
    if seller is None:
        raise HTTPException(404, f"no seller {seller_id}")
    return dashboard(seller)
