"""Where a Sentinel-2 tile lies: what a file's geotransform is checked against."""

from functools import lru_cache

from mosaic.utils.errors import ArchiveError

# Letters of the military grid, without I and O. Columns of 100 km repeat every three zones, rows every
# 2000 km.
_COLUMNS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_NORTHERN_BANDS = "NPQRSTUVWX"
_SQUARE = 100_000
_CYCLE = 2_000_000
_METRES_PER_DEGREE = 110_000  # slightly less than of any meridian arc
_TILE_METRES = 109_800  # side of a tile
_GRID = 60  # tiles are widened until their corner lies on the grid of the 60 m bands


@lru_cache(maxsize=1024)
def tile_corner(tile: str) -> tuple[int, int, int]:
    """Return (EPSG code, easting, northing) of a tile's upper-left corner, in metres of its UTM zone.

    The 100 km square comes from the military grid's lettering (NGA.SIG.0012, UTMUPS); Sentinel-2 then moves
    the corner outward to a multiple of 60 m. Agrees with the files of all 20 tiles that were at hand.

    Args:
        tile: five characters, e.g. ``33UUP``; northern hemisphere only.

    Raises:
        ArchiveError: when that is no tile.
    """
    try:
        zone, band, column, row = int(tile[:2]), tile[2], tile[3], tile[4]
        if not 1 <= zone <= 60 or len(tile) != 5:
            raise ValueError
        easting = _SQUARE * (_COLUMNS[zone % 3].index(column) + 1)
        northing = _SQUARE * ((_ROWS.index(row) - (0 if zone % 2 else 5)) % len(_ROWS))
        southern_edge = _METRES_PER_DEGREE * 8 * _NORTHERN_BANDS.index(band)
    except (ValueError, IndexError) as error:
        raise ArchiveError(
            f"{tile!r} is not a Sentinel-2 tile of the northern hemisphere, e.g. 33UUP"
        ) from error
    top = northing + _SQUARE
    while top <= southern_edge:
        top += _CYCLE
    return 32600 + zone, easting // _GRID * _GRID, -(-top // _GRID) * _GRID


def tile_centre(tile: str) -> tuple[float, float]:
    """Return longitude and latitude of a tile's centre, degrees (WGS 84)."""
    from rasterio.warp import transform

    epsg, left, top = tile_corner(tile)
    half = _TILE_METRES / 2
    (lon,), (lat,) = transform(f"EPSG:{epsg}", "EPSG:4326", [left + half], [top - half])[:2]
    return float(lon), float(lat)
