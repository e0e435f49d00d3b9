"""Words that students' values are made of: short, ASCII, no two alike at a glance."""

from __future__ import annotations

from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PEOPLE: Final = _words("""
    ACHIENG ADEN AKINYI AMANI ATIENO BARAKA BAKARI CHEBET CHEPKOECH CHERONO DALILA EKAL FARAJI
    FATUMA GACHERI GITHINJI HALIMA HAMISI IMANI JABALI JELAGAT JUMA KAMAU KARANI KHADIJA KIBET
    KIPTOO KOECH LETOIYA LULU MAKENA MALIK MARITIM MBUGUA MORAA MUMBI MUTISO MWANGI NAFULA NALIAKA
    NASRA NEKESA NJERI NJOROGE OCHIENG ODHIAMBO OKELLO OMONDI ONYANGO OTIENO PENDO RASHIDI REHEMA
    SAFIYA SANKALE SIMIYU TABITHA TAJI TUMAINI WAFULA WAMBUI WANJIKU WEKESA ZAINABU
""")
THINGS: Final = _words("""
    anchor banana basket beacon blanket bottle bridge bucket button camera candle canvas carpet
    castle cement chalk cherry circle coffee compass copper cotton crystal curtain desert diamond
    donkey dragon engine falcon feather ferry flute forest garden ginger guitar hammer harbour
    helmet honey island jacket jungle kettle ladder lantern lemon lizard mango marble meadow
    mirror monsoon needle olive orange oyster paddle pepper pillow planet pocket rabbit ribbon
    river rocket saddle sandal silver spider sugar sunset tailor teapot temple thunder ticket
    tiger tomato tractor trumpet tunnel turtle valley velvet violin walnut window winter zebra
""")
PLACES: Final = _words("""
    Bondo Bungoma Busia Eldoret Embu Garissa Homa-Bay Isiolo Kakamega Kapenguria Kericho Kilifi
    Kisii Kisumu Kitale Lamu Lodwar Machakos Malindi Marsabit Maseno Meru Migori Mombasa Nairobi
    Naivasha Nakuru Nanyuki Narok Nyeri Siaya Thika Voi Wajir Webuye
""")
#: What people say to each other; %(…)s are filled in.
SENTENCES: Final = (
    "Bring the %(thing)s to %(place)s at %(hour)s",
    "The %(thing)s for %(place)s costs %(number)s shillings",
    "Nobody in %(place)s has seen the %(thing)s since %(hour)s",
    "Leave my %(thing)s with the guard in %(place)s, gate %(number)s",
    "They moved the %(thing)s from %(place)s at %(hour)s",
    "I paid %(number)s for that %(thing)s in %(place)s",
)
