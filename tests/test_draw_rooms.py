"""The picture of the rooms in docs/ is drawn from the code as it is."""

import draw_rooms


def test_the_picture_is_that_of_the_code():
    drawn = draw_rooms.PICTURE.read_text(encoding="utf-8")
    assert drawn == draw_rooms.picture(), "python tests/draw_rooms.py"


def test_a_line_is_left_out_only_where_others_imply_it():
    imports = {"top": {"middle", "ground"}, "middle": {"ground"}, "ground": set()}
    assert draw_rooms.without_implied(imports) == {"top": {"middle"}, "middle": {"ground"}, "ground": set()}


def test_every_room_stands_above_what_it_imports():
    imports = draw_rooms.room_imports()
    rows = draw_rooms.rows_of(imports)
    height = {room: number for number, row in enumerate(rows) for room in row}
    assert height.keys() == imports.keys()
    assert all(height[room] > height[other] for room, used in imports.items() for other in used)
