"""The word lists that names are made of; some letters lie outside ASCII on purpose."""

# ruff: noqa: SIM905 - words are read as a text, not as a list of literals

FIRST_NAMES = tuple(
    "Ada Amira André Anna Aroha Björn Carlos Chloé Dáithí Dmitri Elif Emeka Émile Eva Fatima Félix Freya Giulia Grace "
    "Hana Hugo Ingrid Iván Jana João Kofi Lars Léa Leila Liam Łukasz Maja Mateo Mei Mina Nadia Niamh Noah Olu "
    "Omar Özge Paula Pedro Priya Quinn Rania Raúl Renée Rosa Søren Sven Tanvi Þóra Tomás Uma Vera Wei Yusuf Zoë "
    "Žofia".split()
)

LAST_NAMES = tuple(
    "Abara Ahmed Almeida Andersen Åberg Bauer Béla Brown Castillo Chen Costa Çelik Dubois Dvořák Eriksen Fischer "
    "Fontaine García Gómez Grünwald Haddad Hansen Horváth Ibrahim Ito Ivanov Jensen Jónsdóttir Kamara Kaya Kim "
    "Kowalski Kumar Laurent Lindqvist López Mbeki Meyer Moreau Müller Nakamura Nguyễn Novák Nowak O’Brien Okafor "
    "Öztürk Papadopoulos Patel Pereira Petrov Quiroga Rossi Saarinen Sato Schäfer Silva Singh Škoda Smith Sørensen "
    "Tanaka Torres Traoré Ueda Vargas Vásquez Virtanen Weiß Williams Yamada Yılmaz Zhang Ziegler Østby".split()
)

ADJECTIVES = tuple(
    "Amber Blue Bold Bright Brushed Classic Compact Copper Crème Dark Double Durable Foldable Forest Glass Golden "
    "Granite Green Handmade Indigo Ivory Jade Light Linen Maple Matte Natural Nordic Oak Olive Plain Quiet Red "
    "Rosé Rustic Sable Silver Slim Smooth Solid Steel Striped Sturdy Terracotta Teal Travel Velvet Walnut White".split()
)

NOUNS = tuple(
    "Apron Backpack Basket Blanket Bottle Bowl Brûleur Candle Carafe Chair Clock Coaster Cup Cushion Desk Dish Duvet "
    "Fan Frame Glove Hammer Jar Kettle Knife Ladle Lamp Mat Mirror Mug Napkin Notebook Pan Pen Pillow Pitcher Planter "
    "Plate Rack Ruler Rug Scarf Shelf Spoon Stool Table Teapot Torch Towel Tray Umbrella Vase Wok".split()
)

PRODUCT_SIZES = ("XS", "S", "M", "L", "XL", "Mini", "Maxi", "Duo", "Trio", "2er-Set", "½", "N°5")
