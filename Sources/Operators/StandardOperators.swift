import GraphIR

extension OperatorRegistry {
  /// The operators of models, those that a file may name.
  package static let standard = OperatorRegistry(models)

  /// Every operator of this module: those of models, of losses and of gradients.
  package static let training = OperatorRegistry(models + differentials)

  private static let models: [any Op.Type] = [
    Add.self, AddPositions.self, Attention.self, Embedding.self, FakeQuantize.self, GELU.self,
    L2Normalize.self, LayerNorm.self, Linear.self, PrependToken.self, QuickGELU.self,
    SelectEndToken.self, SelectToken.self, UnfoldPatches.self,
  ]

  private static let differentials: [any Op.Type] = [
    ActivationGradient.self, AttentionGradient.self, Broadcast.self, Clamp.self,
    ContractAxis.self, ContractLeading.self, Diagonal.self, DropFirstToken.self,
    EmbeddingGradient.self, ErrorFunction.self, Exponential.self, FakeQuantizeWeight.self,
    Fill.self, FoldPatches.self, Gate.self, IsPositive.self, LayerNormGradient.self,
    LinearTransposed.self, LogSoftmax.self, MagnitudeAwareGate.self, MaskedLayerNorm.self,
    MatMul.self, MergeHeads.self, Multiply.self, Offset.self, PlaceDiagonal.self,
    PlaceEndToken.self, PlaceToken.self, ReciprocalSquareRoot.self, Scale.self, ScaleAxis.self,
    Sigmoid.self, Softmax.self, SplitHeads.self, Sum.self, SumPositions.self,
  ]
}
