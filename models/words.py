"""The words that prompts are made of: each one token (tokenizer.py), each in one class, so that words of a class can change places.

The last words of each class are held out: in training they stand in repeated random text alone, never in a shot or a question."""

NAMES = """Anna Bruno Clara David Elena Felix Greta Hugo Irene Jonas Karin Leon Maria Nora Oscar Paula Quinn Rosa Simon Tara Ulla Victor
Wanda Xenia Yara Zoe Adam Bella Carlo Diana Emil Fiona Georg Hanna Ivan Julia Kurt Lena Marco Nina Otto Petra Ralf Stella Tom Uma Vera
Walter Yuri Zara Alma Boris Cora Dario Edith Frank Gina Heidi Igor Jana Klaus Lydia Milo Nadia Olga Pablo Rita Sven Tina Urs""".split()
THINGS = """apple book candle drum egg fork guitar hammer island jar kettle lamp mirror needle onion piano quilt rope sword table
umbrella violin wheel anchor basket clock desk engine flag glove hat iron jacket key ladder map nail oven pencil ring shoe towel vase
whistle axe bell coin dice fan gate helmet kite lemon medal net orange pump rug scarf tent wallet zipper bottle button chair flute""".split()
CITIES = """Athens Berlin Cairo Delhi Geneva Havana Istanbul Jakarta Kyoto Lisbon Madrid Nairobi Oslo Paris Quito Rome Seoul Tokyo Vienna
Warsaw Zurich Boston Dublin Lima Prague Sofia Tunis Bern Basel Milan Turin Lyon Nice Ghent Porto Riga Tallinn Minsk Dakar Bonn""".split()
ANIMALS = """ant bear cat dog eagle fox goat horse ibis jaguar koala lion mouse newt owl pig quail rabbit snake tiger urchin viper wolf
yak zebra badger camel deer ferret gecko heron lynx mole otter panda raven seal toad walrus crab duck frog hare""".split()
COLOURS = "red blue green yellow purple white black brown pink grey silver gold".split()

CLASSES = (NAMES, THINGS, CITIES, ANIMALS, COLOURS)
ALL = [w for c in CLASSES for w in c]
HELD_OUT = {w for c in CLASSES for w in c[len(c) - len(c) // 6:]}


def known(words):
    return [w for w in words if w not in HELD_OUT]


def new(words):
    return [w for w in words if w in HELD_OUT]
