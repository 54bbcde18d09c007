"""The words that the data set is made of."""

CATEGORIES = {
    "Kitchen": ("Frying Pan", "Chef's Knife", "Kettle", "Stockpot", "Cutting Board", "Espresso Maker"),
    "Lighting": ("Desk Lamp", "Floor Lamp", "Pendant", "Lantern", "Wall Light", "String Lights"),
    "Furniture": ("Bookcase", "Side Table", "Armchair", "Stool", "Bench", "Sideboard"),
    "Bedding": ("Duvet", "Pillow", "Blanket", "Fitted Sheet", "Mattress Topper", "Quilt"),
    "Garden": ("Trowel", "Hose Reel", "Planter", "Watering Can", "Pruning Shears", "Compost Bin"),
    "Tools": ("Drill", "Socket Set", "Workbench", "Spirit Level", "Hand Saw", "Tool Chest"),
    "Cycling": ("Bike Lock", "Helmet", "Saddle", "Pannier", "Floor Pump", "Bottle Cage"),
    "Camping": ("Tent", "Sleeping Bag", "Head Torch", "Camp Stove", "Roll Mat", "Cool Box"),
    "Running": ("Trail Shoe", "Road Shoe", "Hydration Vest", "Running Belt", "Rain Jacket", "Cap"),
    "Yoga": ("Yoga Mat", "Block", "Bolster", "Strap", "Foam Roller", "Meditation Cushion"),
    "Audio": ("Headphones", "Bookshelf Speaker", "Soundbar", "Turntable", "Earbuds", "Microphone"),
    "Computers": ("Keyboard", "Mouse", "Monitor Arm", "Laptop Stand", "Docking Station", "Webcam"),
    "Photography": ("Tripod", "Camera Bag", "Light Panel", "Lens Filter", "Camera Strap", "Backdrop"),
    "Stationery": ("Notebook", "Fountain Pen", "Desk Organiser", "Planner", "Sketchbook", "Stapler"),
    "Toys": ("Train Set", "Building Blocks", "Puzzle", "Marble Run", "Dollhouse", "Kite"),
    "Pets": ("Dog Bed", "Cat Tree", "Feeder", "Harness", "Pet Carrier", "Scratching Post"),
}

STYLES = (
    "Classic", "Compact", "Everyday", "Folding", "Heritage", "Lightweight", "Modern", "Nordic", "Original",
    "Portable", "Premium", "Reinforced", "Silent", "Slim", "Studio", "Vintage",
)  # fmt: skip

MATERIALS = (
    "Aluminium", "Ash", "Bamboo", "Canvas", "Carbon", "Ceramic", "Copper", "Cork", "Cotton", "Leather",
    "Linen", "Oak", "Recycled", "Steel", "Walnut", "Wool",
)  # fmt: skip

SELLER_FIRST = (
    "Alder", "Anchor", "Beacon", "Birch", "Bright", "Cobalt", "Copper", "Crown", "Delta", "Ember", "Fern",
    "Golden", "Granite", "Harbour", "Hazel", "Juniper", "Kestrel", "Lakeside", "Maple", "Meadow", "Northern",
    "Orchard", "Pebble", "Pioneer", "Raven", "River", "Saffron", "Silver", "Summit", "Tidal", "Union",
    "Willow",
)  # fmt: skip

SELLER_LAST = (
    "& Co", "Brothers", "Collective", "Crafts", "Direct", "Emporium", "Goods", "House", "Imports", "Market",
    "Mercantile", "Outfitters", "Provisions", "Supply", "Trading", "Workshop",
)  # fmt: skip

FIRST_NAMES = (
    "Aaron", "Aisha", "Alba", "Amir", "Anna", "Ben", "Bianca", "Carlos", "Chloe", "Daniel", "Dilara", "Elena",
    "Emil", "Fatima", "Felix", "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jana", "Jonas", "Julia", "Kaito",
    "Karim", "Laura", "Leon", "Lucia", "Maria", "Mateo", "Mei", "Mila", "Nadia", "Niko", "Noah", "Olga",
    "Omar", "Paula", "Priya", "Rosa", "Samir", "Sara", "Simon", "Sofia", "Tariq", "Tom", "Vera", "Yuki",
)  # fmt: skip

LAST_NAMES = (
    "Abe", "Ahmed", "Andersson", "Bauer", "Brown", "Chen", "Costa", "Davies", "Dubois", "Evans", "Ferrari",
    "Fischer", "Garcia", "Haddad", "Hansen", "Hoffmann", "Ito", "Ivanova", "Jansen", "Kaya", "Khan", "Kim",
    "Kowalski", "Larsen", "Lopez", "Martin", "Meyer", "Moreau", "Moretti", "Nguyen", "Novak", "Okafor",
    "Patel", "Petrov", "Rossi", "Sato", "Schmidt", "Silva", "Singh", "Smith", "Tanaka", "Walker", "Wang",
    "Weber", "Wilson", "Wright", "Yilmaz", "Young",
)  # fmt: skip

DESCRIPTIONS = (
    "Made in small batches and checked by hand before it leaves the workshop.",
    "Designed for daily use and easy to clean with warm water and a soft cloth.",
    "The finish is hard-wearing and gets better with age.",
    "Assembles in ten minutes with the tool that comes in the box.",
    "Spare parts are available for at least ten years.",
    "Ships flat in packaging that is free of plastic.",
    "Light enough to carry and strong enough to last.",
    "Comes with a two year guarantee and free returns within thirty days.",
    "The rounded edges make it comfortable to hold.",
    "A quiet design that fits into any home.",
    "Tested to well beyond the load that it is rated for.",
    "Available in six colours, each with a matching bag.",
    "The materials are certified and traceable to their source.",
    "Its low weight makes it a favourite of people who travel.",
    "Every detail was drawn with repair in mind.",
    "The surface is treated with natural oil and is safe for food.",
    "Stores away neatly in its own cover when the season ends.",
    "Works right out of the box and needs no settings.",
    "Rubber feet protect the floor and keep it from slipping.",
    "Our best seller for three years in a row.",
)

REVIEWS = {
    5: (
        ("Excellent", "Exactly what I wanted", "Could not be happier", "Worth every cent", "Love it"),
        (
            "Exceeded every expectation I had.",
            "I have already bought a second one for my sister.",
            "The quality is obvious from the moment you open the box.",
            "After three months of daily use it still looks new.",
            "Delivery was quick and the packaging was sensible.",
            "Looks even better than in the pictures.",
        ),
    ),
    4: (
        ("Very good", "Solid choice", "Good value", "Nearly perfect"),
        (
            "Does its job well and feels sturdy.",
            "The colour is a little darker than on the screen.",
            "Good value for the price.",
            "The instructions could be clearer, but I managed.",
            "Would buy again.",
        ),
    ),
    3: (
        ("It is fine", "Average", "Does the job"),
        (
            "Neither good nor bad, simply what you would expect.",
            "Smaller than I thought, so check the measurements.",
            "It works, but the finish is uneven in places.",
            "Delivery took longer than promised.",
        ),
    ),
    2: (
        ("Disappointing", "Expected more", "Not for me"),
        (
            "One of the screws was missing and I had to ask twice.",
            "Feels cheaper than it looks.",
            "It started to squeak after a week.",
            "I expected more at this price.",
        ),
    ),
    1: (
        ("Broke at once", "Returned it", "Avoid"),
        (
            "Arrived broken and I sent it back the same day.",
            "It stopped working after two weeks.",
            "The seller did not answer my messages.",
            "Nothing like the description.",
        ),
    ),
}
