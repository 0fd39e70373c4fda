import GraphIR
import TensorCore

/// The linear layers that read one value, such as query, key and value, as a walk finds them.
package struct LayerGroup {
  /// The layers in the order of the graph; they share their statistics.
  package let layers: [CalibratedLayer]
  /// The name of the value that they read.
  package let input: String
  /// The codes that round that value, where a ``FakeQuantize`` makes it.
  package let codes: ActivationQuantization?
  /// Whether the codes have to stay, since other layers read them too.
  package let fixesCodes: Bool
  /// Rows of the value, before any rounding by ``codes``; nil where none were asked for.
  package let rows: InputRows?
}

/// What becomes of a ``LayerGroup``.
package struct GroupChange {
  /// What becomes of each layer, in their order; nil for one that stays.
  package var layers: [LayerChange?]
  /// The codes that round the input from now on; nil for those that are there.
  package var codes: ActivationQuantization?

  /// A change to `layers` and, unless nil, to `codes`.
  package init(layers: [LayerChange?], codes: ActivationQuantization? = nil) {
    self.layers = layers
    self.codes = codes
  }
}
