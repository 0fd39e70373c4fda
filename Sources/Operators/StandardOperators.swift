import GraphIR

extension OperatorRegistry {
  /// The operators of models, those that a file may name.
  package static let standard = OperatorRegistry(models + reductions)

  /// The operators that can be trained: those of models, of losses and of gradients.
  package static let training = OperatorRegistry(models + differentials)

  private static let models: [any Op.Type] = [
    Add.self, AddPositions.self, Attention.self, Embedding.self, FakeQuantize.self,
    FakeQuantizeTokens.self, GELU.self,
    L2Normalize.self, LayerNorm.self, Linear.self, PrependToken.self, QuickGELU.self,
    SelectEndToken.self, SelectToken.self, UnfoldPatches.self,
  ]

  /// What shortens sequences at inference, by choices that have no gradient.
  private static let reductions: [any Op.Type] = [
    ProportionalAttention.self, TokenDrop.self, TokenMerge.self,
  ]

  private static let differentials: [any Op.Type] = [
    ActivationGradient.self, AttentionGradient.self, Broadcast.self, Clamp.self, ClippingGate.self,
    ContractAxis.self, ContractLeading.self, Diagonal.self, DropFirstToken.self,
    EmbeddingGradient.self, ErrorFunction.self, Exponential.self, FakeQuantizeActivation.self,
    FakeQuantizeWeight.self, Fill.self, FoldPatches.self, Gate.self, IsPositive.self,
    LayerNormGradient.self, LinearTransposed.self, LogSoftmax.self, MaskedLayerNorm.self,
    MatMul.self, MergeHeads.self, Multiply.self, Offset.self, OptimalScale.self, PlaceDiagonal.self,
    PlaceEndToken.self, PlaceToken.self, QuantizeGradient.self, ReciprocalSquareRoot.self,
    Scale.self, ScaleAxis.self, Sigmoid.self, Softmax.self, SplitHeads.self, Sum.self,
    SumPositions.self,
  ]
}
