"""The application: `uvicorn shopease.main:app`."""

from fastapi import FastAPI

from shopease.routers import categories, products, sellers, users

app = FastAPI(title="ShopEase")
app.include_router(products.router)
app.include_router(categories.router)
app.include_router(users.router)
app.include_router(sellers.router)
